"""
Simulated card traffic: people, merchants, fraud, labels and a producer.

``traffic`` makes the events of a `Scenario`, ``history`` writes its past to a
folder or S3, ``producer`` sends its present to Kinesis, and ``ledger`` keeps
what was sent, so that a demo or a test can compare it with what came out.
"""
