"""The hops of an event, carried out against `ports`; hops never import each other, they meet in the queue."""
