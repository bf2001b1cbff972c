"""From labelled dialogues to prototypes, clusters, dossiers and a trained encoder."""
