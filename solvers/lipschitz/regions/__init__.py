"""Parts of region enumeration: linear regions of deep networks in few dimensions."""
