"""The books of the whole way of the records: read from every hop, compared, each difference explained or named."""
