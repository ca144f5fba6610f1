"""`deblur run`: from the names on the command line to results, photo by photo."""
