"""What the product promises, shown in a minute on one machine."""
