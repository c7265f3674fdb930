"""Files of every format with words in all of their places that are no pixels."""
