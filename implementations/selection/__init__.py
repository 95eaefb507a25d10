"""Who is asked first: the strategies that rank usable providers, and the rules that prefer one."""
