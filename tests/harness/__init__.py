"""What the multi-process tests are written with: hosts (network namespaces), processes, programs,
certificates and a peer that speaks the wire protocol by itself. Standard library only."""
