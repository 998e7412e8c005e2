"""Models on SageMaker: training jobs, models, endpoints, as plans of calls that can be read."""
