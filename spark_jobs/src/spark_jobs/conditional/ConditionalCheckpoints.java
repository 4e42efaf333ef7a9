package crm.lake;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.spark.sql.execution.streaming.checkpointing.CheckpointFileManager;
import org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager;

/**
 * The files of a streaming query's checkpoint on S3, each by one conditional request. Spark's own manager
 * writes another file, copies it to its place and deletes it, with two dozen requests around.
 */
public class ConditionalCheckpoints extends FileSystemBasedCheckpointFileManager {
  public ConditionalCheckpoints(Path folder, Configuration configuration) {
    super(folder, configuration);
  }

  public CheckpointFileManager.CancellableFSDataOutputStream createAtomic(Path path, boolean overwrites) {
    return new Whole(fs(), path, overwrites, new ByteArrayOutputStream());
  }

  static class Whole extends CheckpointFileManager.CancellableFSDataOutputStream {
    private final FileSystem store;
    private final Path path;
    private final boolean overwrites;
    private final ByteArrayOutputStream content;
    private boolean hasEnded = false;

    Whole(FileSystem store, Path path, boolean overwrites, ByteArrayOutputStream content) {
      super(content);
      this.store = store;
      this.path = path;
      this.overwrites = overwrites;
      this.content = content;
    }

    public void close() throws IOException {
      if (hasEnded) {
        return;
      }
      hasEnded = true;
      if (overwrites) {
        FSDataOutputStream file = store.create(path, true);
        file.write(content.toByteArray());
        file.close();
      } else {
        ConditionalWrite.create(store, path, content.toByteArray());
      }
    }

    public void cancel() {
      hasEnded = true;
    }
  }
}
