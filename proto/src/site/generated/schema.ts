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
            "SLICE": 4
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
        }
       }
      }
     }
    }
   }
  }
 }
};
