"""What a judge is asked: the prompt, and how an essay reads."""
