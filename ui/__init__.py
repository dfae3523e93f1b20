"""What a person sees: the Streamlit pages, the account pages, and the terminal."""
