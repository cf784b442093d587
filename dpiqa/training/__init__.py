"""Training on labelled photographs: teacher, then the student that learns from it."""
