"""Access policy: from a file that people write to the tables that the kernel reads.

The law is docs/policy.md. The way of a policy through these modules:

    document   text to a tree with places                 (knows YAML, not policy)
    schema     tree to `language.Policy`                  (knows the words, not the fleet)
    references names against a `fleet.FleetSnapshot`      (knows the fleet, not verdicts)
    evaluate   the direct oracle: walks rules on labels   (knows nothing of compiling)
    resolve    selectors to sets of identities
    compiler   sets and rules to `entries.CompiledPolicy`
    lookup     a verdict from compiled entries, as the kernel finds it
    check, cases, lint, explain, changes, capacity        what the commands are made of

Pure: text comes in, values and errors go out.
"""
