"""Commands about models in the browser."""
