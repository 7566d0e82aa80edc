"""What runs netagent as a whole: the lab, the scenarios, the demo and the benchmark."""
