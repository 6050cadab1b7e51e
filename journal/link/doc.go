// Package link brings the journals of edges to a hub. It has both ends of the link: an [Uplink] at the
// edge, which dials and hands its journal's events over, and a [Hub], which appends them to its own
// journal.
//
// # Who decides what
//
// An edge's journal numbers its events without a gap. The hub stores each event with the name of the
// edge and the event's number there (codec.Event.Edge and Origin), through the same committer and the
// same fsync as the events of its own relays, and only then confirms it. So the newest event of an edge
// in the hub's journal says what the hub has, whatever was killed, restored or lost. At the start of
// every connection the hub says which event that is, and the edge looks whether its journal has the
// same event under this number. If so, it goes on after it. If not, one of the two has another history:
// the hub also says where older histories of the edge ended, and resume.go finds the last event that
// both share.
//
// # The protocol
//
// One TLS connection, dialled by the edge. Both ends send frames: a byte for the type, four for the
// length, and the payload, JSON but for events (batch.go). The hub speaks first.
//
//	hub   greeting  {"protocol":1,"oldest":1,"release":"..."}
//	edge  hello     {"protocol":1,"oldest":1,"release":"...","edge":"ams1","token":"...","instance":"...","journal":"..."}
//	hub   refusal   {"reason":"...","again_ms":5000}                 and closes; or
//	      welcome   {"histories":[{"name":1,"journal":"...","tip":{"origin":8000,"relay":"web1","time":1795416970017829163}}]}
//	edge  find      {"history":1,"origin":7000}                      as often as it wants
//	hub   found     {"origin":6999,"relay":"web1","time":...}        the last event up to that number; origin 0: none
//	edge  begin     {"from":8001,"of":1}
//	      events    a batch with consecutive numbers
//	      gap       {"from":1,"to":5,"reason":"...","told":true}     numbers that the hub will never get
//	      ping      {"now":...,"last":9000}                          every second
//	hub   kept      {"to":8042}                                      durable up to this number
//	      ping      {}                                               every second
//	      notice    {"text":"..."}                                   for people
//	      ask       {"id":1,"what":"override","body":{...}}
//	edge  answer    {"id":1,"body":{...}}  or  {"id":1,"error":"...","kind":"invalid"}
//
// An end that hears nothing for some seconds takes the link for dead. The edge then dials once a second
// until it gets a greeting. The hub never asks for anything that changes an edge but through ask, which
// the edge's own API checks.
package link
