"""From the queue to an exporter: the worker, the dispatcher, the exporter queues and the export of a batch."""
