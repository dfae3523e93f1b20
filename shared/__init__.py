"""The domain and the machinery of BharatVerse.

Imports neither streamlit, nor `ui`, nor `workers`; an import rule keeps it so.
"""
