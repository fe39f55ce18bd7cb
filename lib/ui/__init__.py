"""What the pages are made of. The only part of the library that imports Streamlit."""
