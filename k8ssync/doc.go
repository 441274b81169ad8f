// Package k8ssync is what every node of Fairlead does with a Kubernetes cluster:
// it follows its objects, works out what each wants of the data path, and puts
// that in force.
//
//	API server
//	   │   watch              copies of the objects, followed
//	   ▼
//	dirty keys                which objects have changed, since when
//	   │   options, translate what each wants: pure
//	   ▼
//	kube.Sink                 in force, as a whole or not at all
//
// Every node does this for itself, so no other node has a part in whether it
// serves. Which address a Service has is what its status says; one elected node
// (package election) writes that there (package writer), after all objects have
// been seen.
//
// Before all objects have been seen once, nothing is changed: a node that starts
// goes on with what its disk remembers. When the API server is away, everything
// stays as it was.
package k8ssync
