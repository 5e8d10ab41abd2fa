"""Finding the ranks and threads with which a node trains fastest: `hpcflow tune`."""
