# The quickest CLI that there can be: notes when it began, and writes a traversal of one step. Run in the project's
# folder, with the name of the task, of which `second` takes a second.
date +%s.%N > "started/$BUGNINJA_RUN_ID"
if [ "$1" = second ]; then
	sleep 1
fi
folder="tasks/$1/traversals"
name="traverse_20260101_000000_$BUGNINJA_RUN_ID.json"
cat > "$folder/.$name" <<END
{"brain_states": {"a": {"evaluation_previous_goal": "", "memory": "", "next_goal": "Be quick"}},
 "actions": {"action_0": {"brain_state_id": "a", "action": {"done": {"text": "Done", "success": true}}}},
 "status": "SUCCESSFUL"}
END
mv "$folder/.$name" "$folder/$name"
