// Package member is the membership of the cluster: who is there, who is gone,
// and small messages to all, by gossip.
package member

import _ "github.com/hashicorp/memberlist" // the gossip
