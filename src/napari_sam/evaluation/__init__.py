"""The zero-shot experiments of the SAM paper (section 7), on anybody's images and labels."""
