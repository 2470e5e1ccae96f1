"""Ground floor: configuration, artifacts, progress, errors, devices, seeds. Imports nothing from other rooms."""
