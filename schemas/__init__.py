"""The contract: Avro schemas, typed records and the codec between them.

Nothing here touches the network, a clock or Kafka; the schema registry's client is `streams.registry`.
"""
