"""What training takes, said beforehand: memory, time and disk, on this machine or a described one."""
