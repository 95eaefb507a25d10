"""Provider selection: the strategies that rank usable providers, and the routing rules that prefer one."""
