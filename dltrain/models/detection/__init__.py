"""Models of detection samples: detectors, and a classifier with region pooling."""
