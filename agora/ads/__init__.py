"""The ads studio: briefs, audiences, texts, images, policy, experiments, export."""
