"""The backbones in other frameworks, each in a module that is imported on request and needs that framework."""
