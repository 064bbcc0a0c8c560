"""How good are the images a network makes? Distances, accuracy, copies, bits per dimension."""
