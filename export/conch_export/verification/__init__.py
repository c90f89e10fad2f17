"""What is exported against the authors' own forward pass: samples, references, standards, reports."""
