"""What runs in the controller on Kubernetes: the fleet of slots' pods, `Function` objects, and leadership over both."""
