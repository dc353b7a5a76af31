"""Long work in the cloud, on procrastinate: what a kind of job is, the queue, the worker, and the jobs themselves."""
