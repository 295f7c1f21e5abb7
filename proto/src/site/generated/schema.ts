// Generated from proto/site/peer.proto by proto/src/site/generate.ts (make generate-site). Do not edit.
/** The messages and services of peer.proto. */
export const schema = {
 "nested": {
  "xtreemos": {
   "nested": {
    "site": {
     "nested": {
      "v1": {
       "nested": {
        "Peer": {
         "methods": {
          "Hello": {
           "requestType": "HelloRequest",
           "responseType": "HelloResponse"
          },
          "Follow": {
           "requestType": "FollowRequest",
           "responseType": "FollowEvent",
           "responseStream": true
          },
          "Remind": {
           "requestType": "RemindRequest",
           "responseType": "RemindResponse"
          }
         }
        },
        "FollowRequest": {
         "fields": {
          "virtualOrganization": {
           "type": "string",
           "id": 1,
           "protoName": "virtual_organization"
          }
         }
        },
        "RemindRequest": {
         "fields": {
          "virtualOrganization": {
           "type": "string",
           "id": 1,
           "protoName": "virtual_organization"
          },
          "state": {
           "type": "string",
           "id": 2
          },
          "ids": {
           "rule": "repeated",
           "type": "uint32",
           "id": 3
          }
         }
        },
        "RemindResponse": {
         "fields": {}
        },
        "FollowEvent": {
         "fields": {
          "kind": {
           "type": "Kind",
           "id": 1
          },
          "name": {
           "type": "string",
           "id": 2
          },
          "json": {
           "type": "string",
           "id": 3
          }
         },
         "nested": {
          "Kind": {
           "values": {
            "WHOLE": 0,
            "ORGANIZATION": 1,
            "MEMBER": 2,
            "REMOVED": 3,
            "SLICE": 4,
            "VOLUME": 5,
            "VOLUME_REMOVED": 6
           }
          }
         }
        },
        "HelloRequest": {
         "fields": {
          "site": {
           "type": "string",
           "id": 1
          },
          "protocols": {
           "rule": "repeated",
           "type": "uint32",
           "id": 2
          }
         }
        },
        "HelloResponse": {
         "fields": {
          "site": {
           "type": "string",
           "id": 1
          },
          "protocols": {
           "rule": "repeated",
           "type": "uint32",
           "id": 2
          },
          "version": {
           "type": "string",
           "id": 3
          },
          "nodes": {
           "type": "uint32",
           "id": 4
          },
          "nodesReady": {
           "type": "uint32",
           "id": 5,
           "protoName": "nodes_ready"
          }
         }
        },
        "Work": {
         "methods": {
          "Hold": {
           "requestType": "HoldRequest",
           "responseType": "HoldResponse"
          },
          "Release": {
           "requestType": "ReleaseRequest",
           "responseType": "ReleaseResponse"
          },
          "Confirm": {
           "requestType": "ConfirmRequest",
           "responseType": "ConfirmResponse"
          },
          "Claims": {
           "requestType": "ClaimsRequest",
           "responseType": "ClaimsResponse"
          },
          "Put": {
           "requestType": "PutRequest",
           "responseType": "PartState"
          },
          "PutWithVolumes": {
           "requestType": "PutRequest",
           "responseType": "PartState"
          },
          "Sync": {
           "requestType": "SyncRequest",
           "responseType": "SyncResponse"
          },
          "Logs": {
           "requestType": "LogsRequest",
           "responseType": "LogsResponse"
          },
          "Connect": {
           "requestType": "ConnectRequest",
           "requestStream": true,
           "responseType": "ConnectResponse",
           "responseStream": true
          }
         }
        },
        "HoldRequest": {
         "fields": {
          "node": {
           "type": "string",
           "id": 1
          },
          "hold": {
           "type": "bytes",
           "id": 2
          }
         }
        },
        "HoldResponse": {
         "fields": {
          "granted": {
           "type": "bool",
           "id": 1
          },
          "ttlMs": {
           "type": "uint32",
           "id": 2,
           "protoName": "ttl_ms"
          },
          "reason": {
           "type": "string",
           "id": 3
          }
         }
        },
        "ReleaseRequest": {
         "fields": {
          "node": {
           "type": "string",
           "id": 1
          },
          "id": {
           "type": "string",
           "id": 2
          }
         }
        },
        "ReleaseResponse": {
         "fields": {}
        },
        "ConfirmRequest": {
         "fields": {
          "node": {
           "type": "string",
           "id": 1
          },
          "id": {
           "type": "string",
           "id": 2
          }
         }
        },
        "ConfirmResponse": {
         "fields": {}
        },
        "ClaimsRequest": {
         "fields": {
          "ids": {
           "rule": "repeated",
           "type": "string",
           "id": 1
          },
          "heardMs": {
           "type": "uint64",
           "id": 2,
           "protoName": "heard_ms"
          }
         }
        },
        "ClaimsResponse": {
         "fields": {
          "ids": {
           "rule": "repeated",
           "type": "string",
           "id": 1
          },
          "nowMs": {
           "type": "uint64",
           "id": 2,
           "protoName": "now_ms"
          }
         }
        },
        "PutRequest": {
         "fields": {
          "virtualOrganization": {
           "type": "string",
           "id": 1,
           "protoName": "virtual_organization"
          },
          "job": {
           "type": "string",
           "id": 2
          },
          "part": {
           "type": "string",
           "id": 3
          },
          "revision": {
           "type": "uint64",
           "id": 4
          },
          "spec": {
           "type": "string",
           "id": 5
          },
          "heardMs": {
           "type": "uint64",
           "id": 6,
           "protoName": "heard_ms"
          }
         }
        },
        "PartState": {
         "fields": {
          "part": {
           "type": "string",
           "id": 1
          },
          "isKnown": {
           "type": "bool",
           "id": 2,
           "protoName": "is_known"
          },
          "isFenced": {
           "type": "bool",
           "id": 3,
           "protoName": "is_fenced"
          },
          "runs": {
           "rule": "repeated",
           "type": "string",
           "id": 4
          },
          "live": {
           "rule": "repeated",
           "type": "string",
           "id": 5
          },
          "tasks": {
           "type": "string",
           "id": 6
          },
          "refusal": {
           "type": "string",
           "id": 7
          },
          "settledRevision": {
           "type": "uint64",
           "id": 9,
           "protoName": "settled_revision"
          },
          "digest": {
           "type": "string",
           "id": 8
          }
         }
        },
        "SyncRequest": {
         "fields": {
          "heardMs": {
           "type": "uint64",
           "id": 1,
           "protoName": "heard_ms"
          },
          "parts": {
           "rule": "repeated",
           "type": "PartRef",
           "id": 2
          }
         }
        },
        "PartRef": {
         "fields": {
          "part": {
           "type": "string",
           "id": 1
          },
          "digest": {
           "type": "string",
           "id": 2
          }
         }
        },
        "SyncResponse": {
         "fields": {
          "parts": {
           "rule": "repeated",
           "type": "PartState",
           "id": 1
          },
          "nowMs": {
           "type": "uint64",
           "id": 2,
           "protoName": "now_ms"
          },
          "isWhole": {
           "type": "bool",
           "id": 3,
           "protoName": "is_whole"
          }
         }
        },
        "LogsRequest": {
         "fields": {
          "part": {
           "type": "string",
           "id": 1
          }
         }
        },
        "LogsResponse": {
         "fields": {
          "logs": {
           "rule": "repeated",
           "type": "Log",
           "id": 1
          }
         }
        },
        "Log": {
         "fields": {
          "index": {
           "type": "uint32",
           "id": 1
          },
          "run": {
           "type": "string",
           "id": 2
          },
          "isFailed": {
           "type": "bool",
           "id": 3,
           "protoName": "is_failed"
          },
          "text": {
           "type": "string",
           "id": 4
          }
         }
        },
        "ConnectRequest": {
         "oneofs": {
          "kind": {
           "oneof": [
            "open",
            "stdin",
            "stdinEnd",
            "resize"
           ]
          }
         },
         "fields": {
          "open": {
           "type": "ConnectOpen",
           "id": 1
          },
          "stdin": {
           "type": "bytes",
           "id": 2
          },
          "stdinEnd": {
           "type": "bool",
           "id": 3,
           "protoName": "stdin_end"
          },
          "resize": {
           "type": "TerminalSize",
           "id": 4
          }
         }
        },
        "ConnectOpen": {
         "fields": {
          "virtualOrganization": {
           "type": "string",
           "id": 1,
           "protoName": "virtual_organization"
          },
          "part": {
           "type": "string",
           "id": 2
          },
          "run": {
           "type": "string",
           "id": 3
          },
          "index": {
           "type": "uint32",
           "id": 4
          },
          "issuer": {
           "type": "string",
           "id": 5
          },
          "subject": {
           "type": "string",
           "id": 6
          },
          "kind": {
           "type": "Kind",
           "id": 7
          },
          "command": {
           "rule": "repeated",
           "type": "string",
           "id": 8
          },
          "stdin": {
           "type": "bool",
           "id": 9
          },
          "tty": {
           "type": "bool",
           "id": 10
          },
          "follow": {
           "type": "bool",
           "id": 11
          },
          "tailLines": {
           "type": "uint32",
           "id": 12,
           "protoName": "tail_lines"
          },
          "timestamps": {
           "type": "bool",
           "id": 13
          }
         },
         "nested": {
          "Kind": {
           "values": {
            "LOG": 0,
            "EXEC": 1,
            "ATTACH": 2
           }
          }
         }
        },
        "TerminalSize": {
         "fields": {
          "columns": {
           "type": "uint32",
           "id": 1
          },
          "rows": {
           "type": "uint32",
           "id": 2
          }
         }
        },
        "ConnectResponse": {
         "oneofs": {
          "kind": {
           "oneof": [
            "stdout",
            "stderr",
            "end"
           ]
          }
         },
         "fields": {
          "stdout": {
           "type": "bytes",
           "id": 1
          },
          "stderr": {
           "type": "bytes",
           "id": 2
          },
          "end": {
           "type": "ConnectEnd",
           "id": 3
          }
         }
        },
        "ConnectEnd": {
         "fields": {
          "exitStatus": {
           "type": "uint32",
           "id": 1,
           "protoName": "exit_status"
          }
         }
        },
        "Storage": {
         "methods": {
          "Relay": {
           "requestType": "RelayRequest",
           "requestStream": true,
           "responseType": "RelayResponse",
           "responseStream": true
          }
         }
        },
        "RelayRequest": {
         "oneofs": {
          "kind": {
           "oneof": [
            "open",
            "data"
           ]
          }
         },
         "fields": {
          "open": {
           "type": "RelayOpen",
           "id": 1
          },
          "data": {
           "type": "bytes",
           "id": 2
          }
         }
        },
        "RelayOpen": {
         "fields": {
          "virtualOrganization": {
           "type": "string",
           "id": 1,
           "protoName": "virtual_organization"
          },
          "volume": {
           "type": "string",
           "id": 2
          },
          "server": {
           "type": "string",
           "id": 3
          }
         }
        },
        "RelayResponse": {
         "oneofs": {
          "kind": {
           "oneof": [
            "opened",
            "data"
           ]
          }
         },
         "fields": {
          "opened": {
           "type": "bool",
           "id": 1
          },
          "data": {
           "type": "bytes",
           "id": 2
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
