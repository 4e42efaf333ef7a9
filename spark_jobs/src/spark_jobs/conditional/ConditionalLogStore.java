package crm.lake;

import io.delta.storage.S3SingleDriverLogStore;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.util.Iterator;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;

/**
 * Delta's log on S3, where the store itself decides who writes a version: the request carries
 * `If-None-Match: *`, so that of two drivers, however long one of them slept, one is refused.
 */
public class ConditionalLogStore extends S3SingleDriverLogStore {
  public ConditionalLogStore(Configuration configuration) {
    super(configuration);
  }

  public void write(Path path, Iterator actions, Boolean overwrite, Configuration configuration) throws IOException {
    if (overwrite.booleanValue()) {
      super.write(path, actions, overwrite, configuration);
      return;
    }
    // whole before the first byte is sent: what is broken off must not be finished as half a commit
    ByteArrayOutputStream lines = new ByteArrayOutputStream();
    while (actions.hasNext()) {
      lines.write((((String) actions.next()) + "\n").getBytes(StandardCharsets.UTF_8));
    }
    try {
      ConditionalWrite.create(path.getFileSystem(configuration), path, lines.toByteArray());
    } catch (org.apache.hadoop.fs.FileAlreadyExistsException there) {
      throw new FileAlreadyExistsException(path.toString());
    }
  }
}
