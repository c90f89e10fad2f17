"""What browsers are given: the pages for people, and models that pages compute themselves."""
