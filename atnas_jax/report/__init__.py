"""What a run came to, as one page to look at and figures for papers."""
