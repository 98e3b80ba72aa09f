"""What is seen of a network, and how it is drawn: once, for the report, the app, the notebook and the terminal."""
