"""Sign-off of a release: what was demanded, what of the evidence counts, what that shows; as a document one can check."""
