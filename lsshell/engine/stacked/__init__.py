"""Many walkers as one computation: everything that one walker has, stacked in rows."""
