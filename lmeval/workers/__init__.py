"""A model on more than one process or machine: workers that are Ray actors, one copy of the model each.

`WorkersEngine` is an engine like the others: whoever asks it knows nothing of workers. See docs/workers.md.

    cluster    Ray started here or joined elsewhere; how its cores and GPUs are shared out
    shards     a plan cut into shards, and what of one is left to do
    messages   what driver and workers tell each other
    worker     the actor: an engine that runs shards
    crew       the driver's side: shards handed out, the dead replaced
    engine     the Engine
"""
