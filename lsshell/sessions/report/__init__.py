"""What many sessions say together: statistics, tables and figures over runs."""
