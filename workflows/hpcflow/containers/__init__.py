"""Images: starting ranks in them, building them, checking them before a job is queued. Apptainer or Singularity."""
