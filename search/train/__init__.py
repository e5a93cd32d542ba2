"""Training of teachers, samples and chosen networks under the errors of a chip."""
