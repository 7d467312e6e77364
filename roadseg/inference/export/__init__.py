"""From a model file to the form that one runtime takes; see `roadseg.inference.export.write.export_model`.

Exporting needs torch and the runtime. What was exported is read by `roadseg.inference.artefact` without torch.
"""
