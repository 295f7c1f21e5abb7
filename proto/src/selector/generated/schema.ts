// Generated from proto/selector/selector.proto by proto/src/selector/generate.ts (make generate-selector). Do not edit.
/** The messages and services of selector.proto. */
export const schema = {
 "nested": {
  "xtreemos": {
   "nested": {
    "selector": {
     "nested": {
      "v1": {
       "nested": {
        "Selector": {
         "methods": {
          "Select": {
           "requestType": "SelectRequest",
           "responseType": "SelectResponse",
           "responseStream": true
          },
          "Hold": {
           "requestType": "HoldRequest",
           "responseType": "HoldResponse"
          },
          "Confirm": {
           "requestType": "ClaimRequest",
           "responseType": "ClaimResponse"
          },
          "Release": {
           "requestType": "ClaimRequest",
           "responseType": "ClaimResponse"
          },
          "Watch": {
           "requestType": "WatchRequest",
           "responseType": "WatchResponse",
           "responseStream": true
          },
          "Status": {
           "requestType": "StatusRequest",
           "responseType": "StatusResponse"
          }
         }
        },
        "Overlay": {
         "methods": {
          "Connect": {
           "requestType": "Envelope",
           "requestStream": true,
           "responseType": "ConnectResponse"
          }
         }
        },
        "Constraint": {
         "oneofs": {
          "_min": {
           "oneof": [
            "min"
           ]
          },
          "_max": {
           "oneof": [
            "max"
           ]
          }
         },
         "fields": {
          "attribute": {
           "type": "string",
           "id": 1
          },
          "min": {
           "type": "double",
           "id": 2,
           "options": {
            "proto3_optional": true
           }
          },
          "max": {
           "type": "double",
           "id": 3,
           "options": {
            "proto3_optional": true
           }
          },
          "in": {
           "rule": "repeated",
           "type": "string",
           "id": 4
          },
          "notIn": {
           "rule": "repeated",
           "type": "string",
           "id": 5,
           "protoName": "not_in"
          }
         }
        },
        "Query": {
         "fields": {
          "id": {
           "type": "string",
           "id": 1
          },
          "constraints": {
           "rule": "repeated",
           "type": "Constraint",
           "id": 2
          },
          "predicates": {
           "rule": "repeated",
           "type": "string",
           "id": 3
          },
          "demand": {
           "keyType": "string",
           "type": "int64",
           "id": 4
          },
          "virtualOrganization": {
           "type": "string",
           "id": 5,
           "protoName": "virtual_organization"
          },
          "startMs": {
           "type": "int64",
           "id": 6,
           "protoName": "start_ms"
          },
          "endMs": {
           "type": "int64",
           "id": 7,
           "protoName": "end_ms"
          },
          "isPreemptible": {
           "type": "bool",
           "id": 8,
           "protoName": "is_preemptible"
          },
          "isReservation": {
           "type": "bool",
           "id": 9,
           "protoName": "is_reservation"
          }
         }
        },
        "SelectRequest": {
         "fields": {
          "query": {
           "type": "Query",
           "id": 1
          },
          "wanted": {
           "type": "uint32",
           "id": 2
          },
          "timeoutMs": {
           "type": "uint32",
           "id": 3,
           "protoName": "timeout_ms"
          }
         }
        },
        "SelectResponse": {
         "oneofs": {
          "kind": {
           "oneof": [
            "offer",
            "summary"
           ]
          }
         },
         "fields": {
          "offer": {
           "type": "Offer",
           "id": 1
          },
          "summary": {
           "type": "Summary",
           "id": 2
          }
         }
        },
        "Value": {
         "oneofs": {
          "kind": {
           "oneof": [
            "number",
            "word"
           ]
          }
         },
         "fields": {
          "number": {
           "type": "double",
           "id": 1
          },
          "word": {
           "type": "string",
           "id": 2
          }
         }
        },
        "Offer": {
         "fields": {
          "node": {
           "type": "string",
           "id": 1
          },
          "site": {
           "type": "string",
           "id": 2
          },
          "address": {
           "type": "string",
           "id": 3
          },
          "incarnation": {
           "type": "uint64",
           "id": 4
          },
          "attributes": {
           "keyType": "string",
           "type": "Value",
           "id": 5
          },
          "live": {
           "keyType": "string",
           "type": "double",
           "id": 6
          },
          "free": {
           "keyType": "string",
           "type": "int64",
           "id": 7
          }
         }
        },
        "Summary": {
         "fields": {
          "refusals": {
           "keyType": "string",
           "type": "uint32",
           "id": 1
          },
          "isExhausted": {
           "type": "bool",
           "id": 2,
           "protoName": "is_exhausted"
          },
          "unreached": {
           "type": "uint32",
           "id": 3
          },
          "visited": {
           "type": "uint32",
           "id": 4
          },
          "falseVisits": {
           "type": "uint32",
           "id": 5,
           "protoName": "false_visits"
          },
          "hops": {
           "type": "uint32",
           "id": 6
          }
         }
        },
        "HoldRequest": {
         "fields": {
          "id": {
           "type": "string",
           "id": 1
          },
          "owner": {
           "type": "string",
           "id": 2
          },
          "virtualOrganization": {
           "type": "string",
           "id": 3,
           "protoName": "virtual_organization"
          },
          "demand": {
           "keyType": "string",
           "type": "int64",
           "id": 4
          },
          "ttlMs": {
           "type": "uint32",
           "id": 5,
           "protoName": "ttl_ms"
          },
          "startMs": {
           "type": "int64",
           "id": 6,
           "protoName": "start_ms"
          },
          "endMs": {
           "type": "int64",
           "id": 7,
           "protoName": "end_ms"
          },
          "isPreemptible": {
           "type": "bool",
           "id": 8,
           "protoName": "is_preemptible"
          },
          "reservation": {
           "type": "string",
           "id": 9
          },
          "isReservation": {
           "type": "bool",
           "id": 10,
           "protoName": "is_reservation"
          },
          "ownerReference": {
           "type": "OwnerReference",
           "id": 11,
           "protoName": "owner_reference"
          },
          "isDraining": {
           "type": "bool",
           "id": 12,
           "protoName": "is_draining"
          }
         }
        },
        "OwnerReference": {
         "fields": {
          "apiVersion": {
           "type": "string",
           "id": 1,
           "protoName": "api_version"
          },
          "kind": {
           "type": "string",
           "id": 2
          },
          "name": {
           "type": "string",
           "id": 3
          },
          "uid": {
           "type": "string",
           "id": 4
          }
         }
        },
        "HoldResponse": {
         "fields": {
          "ttlMs": {
           "type": "uint32",
           "id": 1,
           "protoName": "ttl_ms"
          }
         }
        },
        "ClaimRequest": {
         "fields": {
          "id": {
           "type": "string",
           "id": 1
          },
          "owner": {
           "type": "string",
           "id": 2
          }
         }
        },
        "ClaimResponse": {
         "fields": {}
        },
        "WatchRequest": {
         "fields": {
          "predicates": {
           "rule": "repeated",
           "type": "string",
           "id": 1
          }
         }
        },
        "WatchResponse": {
         "fields": {
          "live": {
           "keyType": "string",
           "type": "double",
           "id": 1
          },
          "broken": {
           "type": "string",
           "id": 2
          },
          "free": {
           "keyType": "string",
           "type": "int64",
           "id": 3
          }
         }
        },
        "StatusRequest": {
         "fields": {}
        },
        "StatusResponse": {
         "fields": {
          "json": {
           "type": "string",
           "id": 1
          }
         }
        },
        "ConnectResponse": {
         "fields": {}
        },
        "Descriptor": {
         "fields": {
          "site": {
           "type": "string",
           "id": 1
          },
          "node": {
           "type": "string",
           "id": 2
          },
          "address": {
           "type": "string",
           "id": 3
          },
          "incarnation": {
           "type": "uint64",
           "id": 4
          },
          "stamp": {
           "type": "uint64",
           "id": 5
          },
          "isLeaving": {
           "type": "bool",
           "id": 6,
           "protoName": "is_leaving"
          },
          "isOffering": {
           "type": "bool",
           "id": 7,
           "protoName": "is_offering"
          },
          "attributes": {
           "keyType": "string",
           "type": "Value",
           "id": 8
          },
          "signature": {
           "type": "bytes",
           "id": 9
          }
         }
        },
        "Axis": {
         "fields": {
          "attribute": {
           "type": "string",
           "id": 1
          },
          "cuts": {
           "rule": "repeated",
           "type": "double",
           "id": 2
          }
         }
        },
        "Borders": {
         "fields": {
          "mintedAt": {
           "type": "uint64",
           "id": 1,
           "protoName": "minted_at"
          },
          "site": {
           "type": "string",
           "id": 2
          },
          "axes": {
           "rule": "repeated",
           "type": "Axis",
           "id": 3
          },
          "signature": {
           "type": "bytes",
           "id": 4
          }
         }
        },
        "Mark": {
         "fields": {
          "id": {
           "type": "string",
           "id": 1
          },
          "mintedAt": {
           "type": "uint64",
           "id": 2,
           "protoName": "minted_at"
          }
         }
        },
        "Curve": {
         "fields": {
          "attribute": {
           "type": "string",
           "id": 1
          },
          "thresholds": {
           "rule": "repeated",
           "type": "double",
           "id": 2
          }
         }
        },
        "Average": {
         "fields": {
          "stamp": {
           "type": "uint64",
           "id": 1
          },
          "starter": {
           "type": "string",
           "id": 2
          },
          "curves": {
           "rule": "repeated",
           "type": "Curve",
           "id": 3
          },
          "values": {
           "rule": "repeated",
           "type": "float",
           "id": 4
          }
         }
        },
        "Gossip": {
         "fields": {
          "kind": {
           "type": "Kind",
           "id": 1
          },
          "token": {
           "type": "uint64",
           "id": 2
          },
          "from": {
           "type": "Descriptor",
           "id": 3
          },
          "mark": {
           "type": "Mark",
           "id": 4
          },
          "items": {
           "rule": "repeated",
           "type": "Descriptor",
           "id": 5
          },
          "average": {
           "type": "Average",
           "id": 6
          },
          "bordersId": {
           "type": "string",
           "id": 7,
           "protoName": "borders_id"
          },
          "key": {
           "rule": "repeated",
           "type": "fixed32",
           "id": 8
          },
          "filled": {
           "rule": "repeated",
           "type": "fixed32",
           "id": 9
          }
         },
         "nested": {
          "Kind": {
           "values": {
            "EXCHANGE": 0,
            "EXCHANGED": 1,
            "FOUND": 2,
            "PING": 3,
            "PONG": 4,
            "SHUFFLE": 5,
            "SHUFFLED": 6,
            "FIND": 7
           }
          }
         }
        },
        "BordersNews": {
         "fields": {
          "borders": {
           "type": "Borders",
           "id": 1
          },
          "former": {
           "type": "Borders",
           "id": 2
          },
          "replyTo": {
           "type": "string",
           "id": 3,
           "protoName": "reply_to"
          }
         }
        },
        "QueryHop": {
         "fields": {
          "token": {
           "type": "uint64",
           "id": 1
          },
          "replyTo": {
           "type": "string",
           "id": 2,
           "protoName": "reply_to"
          },
          "query": {
           "type": "Query",
           "id": 3
          },
          "bordersId": {
           "type": "string",
           "id": 4,
           "protoName": "borders_id"
          },
          "depth": {
           "type": "uint32",
           "id": 5
          },
          "budget": {
           "type": "uint32",
           "id": 6
          },
          "floor": {
           "type": "double",
           "id": 7
          },
          "remainingMs": {
           "type": "uint32",
           "id": 8,
           "protoName": "remaining_ms"
          },
          "hints": {
           "type": "uint32",
           "id": 9
          }
         }
        },
        "Ack": {
         "fields": {
          "token": {
           "type": "uint64",
           "id": 1
          }
         }
        },
        "Done": {
         "fields": {
          "token": {
           "type": "uint64",
           "id": 1
          },
          "refused": {
           "type": "bool",
           "id": 2
          },
          "offers": {
           "rule": "repeated",
           "type": "Offer",
           "id": 3
          },
          "summary": {
           "type": "Summary",
           "id": 4
          },
          "hints": {
           "rule": "repeated",
           "type": "Descriptor",
           "id": 5
          }
         }
        },
        "Envelope": {
         "oneofs": {
          "kind": {
           "oneof": [
            "gossip",
            "borders",
            "query",
            "ack",
            "done"
           ]
          }
         },
         "fields": {
          "gossip": {
           "type": "Gossip",
           "id": 1
          },
          "borders": {
           "type": "BordersNews",
           "id": 2
          },
          "query": {
           "type": "QueryHop",
           "id": 3
          },
          "ack": {
           "type": "Ack",
           "id": 4
          },
          "done": {
           "type": "Done",
           "id": 5
          }
         }
        }
       }
      }
     }
    }
   }
  }
 }
};
