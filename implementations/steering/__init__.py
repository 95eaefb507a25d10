"""Runtime changes by operators, and their synchronization across replicas."""
