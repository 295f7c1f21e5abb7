// Generated from proto/csi/*.proto by proto/src/csi/generate.ts (make generate-csi). Do not edit.
/** The messages and services of csi.proto and registration.proto. */
export const schema = {
 "nested": {
  "csi": {
   "nested": {
    "v1": {
     "nested": {
      "Identity": {
       "methods": {
        "GetPluginInfo": {
         "requestType": "GetPluginInfoRequest",
         "responseType": "GetPluginInfoResponse"
        },
        "GetPluginCapabilities": {
         "requestType": "GetPluginCapabilitiesRequest",
         "responseType": "GetPluginCapabilitiesResponse"
        },
        "Probe": {
         "requestType": "ProbeRequest",
         "responseType": "ProbeResponse"
        }
       }
      },
      "Controller": {
       "methods": {
        "CreateVolume": {
         "requestType": "CreateVolumeRequest",
         "responseType": "CreateVolumeResponse"
        },
        "DeleteVolume": {
         "requestType": "DeleteVolumeRequest",
         "responseType": "DeleteVolumeResponse"
        },
        "ValidateVolumeCapabilities": {
         "requestType": "ValidateVolumeCapabilitiesRequest",
         "responseType": "ValidateVolumeCapabilitiesResponse"
        },
        "ControllerGetCapabilities": {
         "requestType": "ControllerGetCapabilitiesRequest",
         "responseType": "ControllerGetCapabilitiesResponse"
        },
        "ControllerExpandVolume": {
         "requestType": "ControllerExpandVolumeRequest",
         "responseType": "ControllerExpandVolumeResponse"
        },
        "CreateSnapshot": {
         "requestType": "CreateSnapshotRequest",
         "responseType": "CreateSnapshotResponse"
        },
        "DeleteSnapshot": {
         "requestType": "DeleteSnapshotRequest",
         "responseType": "DeleteSnapshotResponse"
        },
        "ListSnapshots": {
         "requestType": "ListSnapshotsRequest",
         "responseType": "ListSnapshotsResponse"
        }
       }
      },
      "Node": {
       "methods": {
        "NodeStageVolume": {
         "requestType": "NodeStageVolumeRequest",
         "responseType": "NodeStageVolumeResponse"
        },
        "NodeUnstageVolume": {
         "requestType": "NodeUnstageVolumeRequest",
         "responseType": "NodeUnstageVolumeResponse"
        },
        "NodePublishVolume": {
         "requestType": "NodePublishVolumeRequest",
         "responseType": "NodePublishVolumeResponse"
        },
        "NodeUnpublishVolume": {
         "requestType": "NodeUnpublishVolumeRequest",
         "responseType": "NodeUnpublishVolumeResponse"
        },
        "NodeGetVolumeStats": {
         "requestType": "NodeGetVolumeStatsRequest",
         "responseType": "NodeGetVolumeStatsResponse"
        },
        "NodeExpandVolume": {
         "requestType": "NodeExpandVolumeRequest",
         "responseType": "NodeExpandVolumeResponse"
        },
        "NodeGetCapabilities": {
         "requestType": "NodeGetCapabilitiesRequest",
         "responseType": "NodeGetCapabilitiesResponse"
        },
        "NodeGetInfo": {
         "requestType": "NodeGetInfoRequest",
         "responseType": "NodeGetInfoResponse"
        }
       }
      },
      "GetPluginInfoRequest": {
       "fields": {}
      },
      "GetPluginInfoResponse": {
       "fields": {
        "name": {
         "type": "string",
         "id": 1
        },
        "vendorVersion": {
         "type": "string",
         "id": 2,
         "protoName": "vendor_version"
        },
        "manifest": {
         "keyType": "string",
         "type": "string",
         "id": 3
        }
       }
      },
      "GetPluginCapabilitiesRequest": {
       "fields": {}
      },
      "GetPluginCapabilitiesResponse": {
       "fields": {
        "capabilities": {
         "rule": "repeated",
         "type": "PluginCapability",
         "id": 1
        }
       }
      },
      "PluginCapability": {
       "oneofs": {
        "type": {
         "oneof": [
          "service",
          "volumeExpansion"
         ]
        }
       },
       "fields": {
        "service": {
         "type": "Service",
         "id": 1
        },
        "volumeExpansion": {
         "type": "VolumeExpansion",
         "id": 2,
         "protoName": "volume_expansion"
        }
       },
       "nested": {
        "Service": {
         "fields": {
          "type": {
           "type": "Type",
           "id": 1
          }
         },
         "nested": {
          "Type": {
           "values": {
            "UNKNOWN": 0,
            "CONTROLLER_SERVICE": 1,
            "VOLUME_ACCESSIBILITY_CONSTRAINTS": 2
           }
          }
         }
        },
        "VolumeExpansion": {
         "fields": {
          "type": {
           "type": "Type",
           "id": 1
          }
         },
         "nested": {
          "Type": {
           "values": {
            "UNKNOWN": 0,
            "ONLINE": 1,
            "OFFLINE": 2
           }
          }
         }
        }
       }
      },
      "ProbeRequest": {
       "fields": {}
      },
      "ProbeResponse": {
       "fields": {
        "ready": {
         "type": "google.protobuf.BoolValue",
         "id": 1
        }
       }
      },
      "VolumeCapability": {
       "oneofs": {
        "accessType": {
         "oneof": [
          "block",
          "mount"
         ]
        }
       },
       "fields": {
        "block": {
         "type": "BlockVolume",
         "id": 1
        },
        "mount": {
         "type": "MountVolume",
         "id": 2
        },
        "accessMode": {
         "type": "AccessMode",
         "id": 3,
         "protoName": "access_mode"
        }
       },
       "nested": {
        "BlockVolume": {
         "fields": {}
        },
        "MountVolume": {
         "fields": {
          "fsType": {
           "type": "string",
           "id": 1,
           "protoName": "fs_type"
          },
          "mountFlags": {
           "rule": "repeated",
           "type": "string",
           "id": 2,
           "protoName": "mount_flags"
          },
          "volumeMountGroup": {
           "type": "string",
           "id": 3,
           "protoName": "volume_mount_group"
          }
         }
        },
        "AccessMode": {
         "fields": {
          "mode": {
           "type": "Mode",
           "id": 1
          }
         },
         "nested": {
          "Mode": {
           "values": {
            "UNKNOWN": 0,
            "SINGLE_NODE_WRITER": 1,
            "SINGLE_NODE_READER_ONLY": 2,
            "MULTI_NODE_READER_ONLY": 3,
            "MULTI_NODE_SINGLE_WRITER": 4,
            "MULTI_NODE_MULTI_WRITER": 5,
            "SINGLE_NODE_SINGLE_WRITER": 6,
            "SINGLE_NODE_MULTI_WRITER": 7
           }
          }
         }
        }
       }
      },
      "CapacityRange": {
       "fields": {
        "requiredBytes": {
         "type": "int64",
         "id": 1,
         "protoName": "required_bytes"
        },
        "limitBytes": {
         "type": "int64",
         "id": 2,
         "protoName": "limit_bytes"
        }
       }
      },
      "VolumeContentSource": {
       "oneofs": {
        "type": {
         "oneof": [
          "snapshot",
          "volume"
         ]
        }
       },
       "fields": {
        "snapshot": {
         "type": "SnapshotSource",
         "id": 1
        },
        "volume": {
         "type": "VolumeSource",
         "id": 2
        }
       },
       "nested": {
        "SnapshotSource": {
         "fields": {
          "snapshotId": {
           "type": "string",
           "id": 1,
           "protoName": "snapshot_id"
          }
         }
        },
        "VolumeSource": {
         "fields": {
          "volumeId": {
           "type": "string",
           "id": 1,
           "protoName": "volume_id"
          }
         }
        }
       }
      },
      "CreateVolumeRequest": {
       "fields": {
        "name": {
         "type": "string",
         "id": 1
        },
        "capacityRange": {
         "type": "CapacityRange",
         "id": 2,
         "protoName": "capacity_range"
        },
        "volumeCapabilities": {
         "rule": "repeated",
         "type": "VolumeCapability",
         "id": 3,
         "protoName": "volume_capabilities"
        },
        "parameters": {
         "keyType": "string",
         "type": "string",
         "id": 4
        },
        "volumeContentSource": {
         "type": "VolumeContentSource",
         "id": 6,
         "protoName": "volume_content_source"
        }
       }
      },
      "CreateVolumeResponse": {
       "fields": {
        "volume": {
         "type": "Volume",
         "id": 1
        }
       }
      },
      "Volume": {
       "fields": {
        "capacityBytes": {
         "type": "int64",
         "id": 1,
         "protoName": "capacity_bytes"
        },
        "volumeId": {
         "type": "string",
         "id": 2,
         "protoName": "volume_id"
        },
        "volumeContext": {
         "keyType": "string",
         "type": "string",
         "id": 3,
         "protoName": "volume_context"
        },
        "contentSource": {
         "type": "VolumeContentSource",
         "id": 4,
         "protoName": "content_source"
        }
       }
      },
      "CreateSnapshotRequest": {
       "fields": {
        "sourceVolumeId": {
         "type": "string",
         "id": 1,
         "protoName": "source_volume_id"
        },
        "name": {
         "type": "string",
         "id": 2
        },
        "parameters": {
         "keyType": "string",
         "type": "string",
         "id": 4
        }
       }
      },
      "CreateSnapshotResponse": {
       "fields": {
        "snapshot": {
         "type": "Snapshot",
         "id": 1
        }
       }
      },
      "Snapshot": {
       "fields": {
        "sizeBytes": {
         "type": "int64",
         "id": 1,
         "protoName": "size_bytes"
        },
        "snapshotId": {
         "type": "string",
         "id": 2,
         "protoName": "snapshot_id"
        },
        "sourceVolumeId": {
         "type": "string",
         "id": 3,
         "protoName": "source_volume_id"
        },
        "creationTime": {
         "type": "Timestamp",
         "id": 4,
         "protoName": "creation_time"
        },
        "readyToUse": {
         "type": "bool",
         "id": 5,
         "protoName": "ready_to_use"
        }
       }
      },
      "Timestamp": {
       "fields": {
        "seconds": {
         "type": "int64",
         "id": 1
        },
        "nanos": {
         "type": "int32",
         "id": 2
        }
       }
      },
      "DeleteSnapshotRequest": {
       "fields": {
        "snapshotId": {
         "type": "string",
         "id": 1,
         "protoName": "snapshot_id"
        }
       }
      },
      "DeleteSnapshotResponse": {
       "fields": {}
      },
      "ListSnapshotsRequest": {
       "fields": {
        "maxEntries": {
         "type": "int32",
         "id": 1,
         "protoName": "max_entries"
        },
        "startingToken": {
         "type": "string",
         "id": 2,
         "protoName": "starting_token"
        },
        "sourceVolumeId": {
         "type": "string",
         "id": 3,
         "protoName": "source_volume_id"
        },
        "snapshotId": {
         "type": "string",
         "id": 4,
         "protoName": "snapshot_id"
        }
       }
      },
      "ListSnapshotsResponse": {
       "fields": {
        "entries": {
         "rule": "repeated",
         "type": "Entry",
         "id": 1
        },
        "nextToken": {
         "type": "string",
         "id": 2,
         "protoName": "next_token"
        }
       },
       "nested": {
        "Entry": {
         "fields": {
          "snapshot": {
           "type": "Snapshot",
           "id": 1
          }
         }
        }
       }
      },
      "DeleteVolumeRequest": {
       "fields": {
        "volumeId": {
         "type": "string",
         "id": 1,
         "protoName": "volume_id"
        }
       }
      },
      "DeleteVolumeResponse": {
       "fields": {}
      },
      "ValidateVolumeCapabilitiesRequest": {
       "fields": {
        "volumeId": {
         "type": "string",
         "id": 1,
         "protoName": "volume_id"
        },
        "volumeContext": {
         "keyType": "string",
         "type": "string",
         "id": 2,
         "protoName": "volume_context"
        },
        "volumeCapabilities": {
         "rule": "repeated",
         "type": "VolumeCapability",
         "id": 3,
         "protoName": "volume_capabilities"
        },
        "parameters": {
         "keyType": "string",
         "type": "string",
         "id": 4
        }
       }
      },
      "ValidateVolumeCapabilitiesResponse": {
       "fields": {
        "confirmed": {
         "type": "Confirmed",
         "id": 1
        },
        "message": {
         "type": "string",
         "id": 2
        }
       },
       "nested": {
        "Confirmed": {
         "fields": {
          "volumeContext": {
           "keyType": "string",
           "type": "string",
           "id": 1,
           "protoName": "volume_context"
          },
          "volumeCapabilities": {
           "rule": "repeated",
           "type": "VolumeCapability",
           "id": 2,
           "protoName": "volume_capabilities"
          },
          "parameters": {
           "keyType": "string",
           "type": "string",
           "id": 3
          }
         }
        }
       }
      },
      "ControllerGetCapabilitiesRequest": {
       "fields": {}
      },
      "ControllerGetCapabilitiesResponse": {
       "fields": {
        "capabilities": {
         "rule": "repeated",
         "type": "ControllerServiceCapability",
         "id": 1
        }
       }
      },
      "ControllerServiceCapability": {
       "oneofs": {
        "type": {
         "oneof": [
          "rpc"
         ]
        }
       },
       "fields": {
        "rpc": {
         "type": "RPC",
         "id": 1
        }
       },
       "nested": {
        "RPC": {
         "fields": {
          "type": {
           "type": "Type",
           "id": 1
          }
         },
         "nested": {
          "Type": {
           "values": {
            "UNKNOWN": 0,
            "CREATE_DELETE_VOLUME": 1,
            "CREATE_DELETE_SNAPSHOT": 5,
            "LIST_SNAPSHOTS": 6,
            "EXPAND_VOLUME": 9,
            "SINGLE_NODE_MULTI_WRITER": 13
           }
          }
         }
        }
       }
      },
      "ControllerExpandVolumeRequest": {
       "fields": {
        "volumeId": {
         "type": "string",
         "id": 1,
         "protoName": "volume_id"
        },
        "capacityRange": {
         "type": "CapacityRange",
         "id": 2,
         "protoName": "capacity_range"
        },
        "volumeCapability": {
         "type": "VolumeCapability",
         "id": 4,
         "protoName": "volume_capability"
        }
       }
      },
      "ControllerExpandVolumeResponse": {
       "fields": {
        "capacityBytes": {
         "type": "int64",
         "id": 1,
         "protoName": "capacity_bytes"
        },
        "nodeExpansionRequired": {
         "type": "bool",
         "id": 2,
         "protoName": "node_expansion_required"
        }
       }
      },
      "NodeStageVolumeRequest": {
       "fields": {
        "volumeId": {
         "type": "string",
         "id": 1,
         "protoName": "volume_id"
        },
        "publishContext": {
         "keyType": "string",
         "type": "string",
         "id": 2,
         "protoName": "publish_context"
        },
        "stagingTargetPath": {
         "type": "string",
         "id": 3,
         "protoName": "staging_target_path"
        },
        "volumeCapability": {
         "type": "VolumeCapability",
         "id": 4,
         "protoName": "volume_capability"
        },
        "volumeContext": {
         "keyType": "string",
         "type": "string",
         "id": 6,
         "protoName": "volume_context"
        }
       }
      },
      "NodeStageVolumeResponse": {
       "fields": {}
      },
      "NodeUnstageVolumeRequest": {
       "fields": {
        "volumeId": {
         "type": "string",
         "id": 1,
         "protoName": "volume_id"
        },
        "stagingTargetPath": {
         "type": "string",
         "id": 2,
         "protoName": "staging_target_path"
        }
       }
      },
      "NodeUnstageVolumeResponse": {
       "fields": {}
      },
      "NodePublishVolumeRequest": {
       "fields": {
        "volumeId": {
         "type": "string",
         "id": 1,
         "protoName": "volume_id"
        },
        "publishContext": {
         "keyType": "string",
         "type": "string",
         "id": 2,
         "protoName": "publish_context"
        },
        "stagingTargetPath": {
         "type": "string",
         "id": 3,
         "protoName": "staging_target_path"
        },
        "targetPath": {
         "type": "string",
         "id": 4,
         "protoName": "target_path"
        },
        "volumeCapability": {
         "type": "VolumeCapability",
         "id": 5,
         "protoName": "volume_capability"
        },
        "readonly": {
         "type": "bool",
         "id": 6
        },
        "volumeContext": {
         "keyType": "string",
         "type": "string",
         "id": 8,
         "protoName": "volume_context"
        }
       }
      },
      "NodePublishVolumeResponse": {
       "fields": {}
      },
      "NodeUnpublishVolumeRequest": {
       "fields": {
        "volumeId": {
         "type": "string",
         "id": 1,
         "protoName": "volume_id"
        },
        "targetPath": {
         "type": "string",
         "id": 2,
         "protoName": "target_path"
        }
       }
      },
      "NodeUnpublishVolumeResponse": {
       "fields": {}
      },
      "NodeGetVolumeStatsRequest": {
       "fields": {
        "volumeId": {
         "type": "string",
         "id": 1,
         "protoName": "volume_id"
        },
        "volumePath": {
         "type": "string",
         "id": 2,
         "protoName": "volume_path"
        },
        "stagingTargetPath": {
         "type": "string",
         "id": 3,
         "protoName": "staging_target_path"
        }
       }
      },
      "NodeGetVolumeStatsResponse": {
       "fields": {
        "usage": {
         "rule": "repeated",
         "type": "VolumeUsage",
         "id": 1
        },
        "volumeCondition": {
         "type": "VolumeCondition",
         "id": 2,
         "protoName": "volume_condition"
        }
       }
      },
      "VolumeUsage": {
       "fields": {
        "available": {
         "type": "int64",
         "id": 1
        },
        "total": {
         "type": "int64",
         "id": 2
        },
        "used": {
         "type": "int64",
         "id": 3
        },
        "unit": {
         "type": "Unit",
         "id": 4
        }
       },
       "nested": {
        "Unit": {
         "values": {
          "UNKNOWN": 0,
          "BYTES": 1,
          "INODES": 2
         }
        }
       }
      },
      "VolumeCondition": {
       "fields": {
        "abnormal": {
         "type": "bool",
         "id": 1
        },
        "message": {
         "type": "string",
         "id": 2
        }
       }
      },
      "NodeExpandVolumeRequest": {
       "fields": {
        "volumeId": {
         "type": "string",
         "id": 1,
         "protoName": "volume_id"
        },
        "volumePath": {
         "type": "string",
         "id": 2,
         "protoName": "volume_path"
        },
        "capacityRange": {
         "type": "CapacityRange",
         "id": 3,
         "protoName": "capacity_range"
        },
        "stagingTargetPath": {
         "type": "string",
         "id": 4,
         "protoName": "staging_target_path"
        },
        "volumeCapability": {
         "type": "VolumeCapability",
         "id": 5,
         "protoName": "volume_capability"
        }
       }
      },
      "NodeExpandVolumeResponse": {
       "fields": {
        "capacityBytes": {
         "type": "int64",
         "id": 1,
         "protoName": "capacity_bytes"
        }
       }
      },
      "NodeGetCapabilitiesRequest": {
       "fields": {}
      },
      "NodeGetCapabilitiesResponse": {
       "fields": {
        "capabilities": {
         "rule": "repeated",
         "type": "NodeServiceCapability",
         "id": 1
        }
       }
      },
      "NodeServiceCapability": {
       "oneofs": {
        "type": {
         "oneof": [
          "rpc"
         ]
        }
       },
       "fields": {
        "rpc": {
         "type": "RPC",
         "id": 1
        }
       },
       "nested": {
        "RPC": {
         "fields": {
          "type": {
           "type": "Type",
           "id": 1
          }
         },
         "nested": {
          "Type": {
           "values": {
            "UNKNOWN": 0,
            "STAGE_UNSTAGE_VOLUME": 1,
            "GET_VOLUME_STATS": 2,
            "EXPAND_VOLUME": 3,
            "VOLUME_CONDITION": 4,
            "SINGLE_NODE_MULTI_WRITER": 5
           }
          }
         }
        }
       }
      },
      "NodeGetInfoRequest": {
       "fields": {}
      },
      "NodeGetInfoResponse": {
       "fields": {
        "nodeId": {
         "type": "string",
         "id": 1,
         "protoName": "node_id"
        },
        "maxVolumesPerNode": {
         "type": "int64",
         "id": 2,
         "protoName": "max_volumes_per_node"
        }
       }
      }
     }
    }
   }
  },
  "google": {
   "nested": {
    "protobuf": {
     "nested": {
      "DoubleValue": {
       "fields": {
        "value": {
         "type": "double",
         "id": 1
        }
       }
      },
      "FloatValue": {
       "fields": {
        "value": {
         "type": "float",
         "id": 1
        }
       }
      },
      "Int64Value": {
       "fields": {
        "value": {
         "type": "int64",
         "id": 1
        }
       }
      },
      "UInt64Value": {
       "fields": {
        "value": {
         "type": "uint64",
         "id": 1
        }
       }
      },
      "Int32Value": {
       "fields": {
        "value": {
         "type": "int32",
         "id": 1
        }
       }
      },
      "UInt32Value": {
       "fields": {
        "value": {
         "type": "uint32",
         "id": 1
        }
       }
      },
      "BoolValue": {
       "fields": {
        "value": {
         "type": "bool",
         "id": 1
        }
       }
      },
      "StringValue": {
       "fields": {
        "value": {
         "type": "string",
         "id": 1
        }
       }
      },
      "BytesValue": {
       "fields": {
        "value": {
         "type": "bytes",
         "id": 1
        }
       }
      }
     }
    }
   }
  },
  "pluginregistration": {
   "nested": {
    "Registration": {
     "methods": {
      "GetInfo": {
       "requestType": "InfoRequest",
       "responseType": "PluginInfo"
      },
      "NotifyRegistrationStatus": {
       "requestType": "RegistrationStatus",
       "responseType": "RegistrationStatusResponse"
      }
     }
    },
    "InfoRequest": {
     "fields": {}
    },
    "PluginInfo": {
     "fields": {
      "type": {
       "type": "string",
       "id": 1
      },
      "name": {
       "type": "string",
       "id": 2
      },
      "endpoint": {
       "type": "string",
       "id": 3
      },
      "supportedVersions": {
       "rule": "repeated",
       "type": "string",
       "id": 4,
       "protoName": "supported_versions"
      }
     }
    },
    "RegistrationStatus": {
     "fields": {
      "pluginRegistered": {
       "type": "bool",
       "id": 1,
       "protoName": "plugin_registered"
      },
      "error": {
       "type": "string",
       "id": 2
      }
     }
    },
    "RegistrationStatusResponse": {
     "fields": {}
    }
   }
  }
 }
};
