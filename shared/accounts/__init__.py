"""Users, roles, sign-in; and the one policy that says who may do what."""
