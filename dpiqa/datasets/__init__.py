"""Image quality data sets in their published layouts, as images with labels from 0 to 1, higher better."""
