"""Speed, memory and scaling of backbones beside their peers, and where a detector's time goes."""
